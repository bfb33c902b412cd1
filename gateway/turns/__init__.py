"""One exchange, from command to saved reply.

`accept` stores the user's message, `prompt` says what the model is asked, `generate`
streams its answer, `reply` gives the parts their meaning, `finish` stores the outcome.
"""

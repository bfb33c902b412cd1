"""The command `makoto`: serve, chat, token, replay."""

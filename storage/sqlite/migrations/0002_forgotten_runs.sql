-- What is remembered of a run that is not there: a cancel that came before it, or that it was forgotten with
-- its session. Then nothing is accepted under its id.
ALTER TABLE early_cancels RENAME TO run_tombstones;
ALTER TABLE run_tombstones ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;

DROP INDEX early_cancels_by_expiry;
CREATE INDEX run_tombstones_by_expiry ON run_tombstones (expires_at);

-- So that an export can hold what came since another, and no more.

-- When an image got these features here, or came back after no file had held it: seconds since 1970. NULL where
-- that was before this version: such features count as older than any time that is asked for.
ALTER TABLE embeddings ADD COLUMN embedded_at INTEGER;

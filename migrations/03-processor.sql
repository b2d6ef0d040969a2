-- What the network really ran on, so that `status` can tell it and not only what it would run on next.

-- The last time that it ran, as `cpu` or `cuda:0, fp16`. NULL where that was before this version.
ALTER TABLE models ADD COLUMN ran_on TEXT;

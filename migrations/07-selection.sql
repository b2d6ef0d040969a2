-- So that a run that names no selection leaves out what an earlier one was told to leave out.

-- What is wanted of a folder, in JSON: `hidden`, `follow_links`, `exclude`. NULL where nothing was said.
ALTER TABLE roots ADD COLUMN selection TEXT;

-- What cameras and people wrote into the photos, so that answers and exports can tell and filter by it.
-- NULL where the photo does not say, and for images that were written down before this version.

-- ISO 8601, as `2024-05-01T12:34:56+02:00`; without the offset where the camera wrote none.
ALTER TABLE images ADD COLUMN taken_at TEXT;
ALTER TABLE images ADD COLUMN camera TEXT;
ALTER TABLE images ADD COLUMN lens TEXT;

-- Degrees, north and east positive.
ALTER TABLE images ADD COLUMN latitude REAL;
ALTER TABLE images ADD COLUMN longitude REAL;

-- 1 to 5 stars, 0 unrated, -1 rejected.
ALTER TABLE images ADD COLUMN rating INTEGER;

-- A JSON array of texts.
ALTER TABLE images ADD COLUMN keywords TEXT;

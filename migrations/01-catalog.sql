-- The catalog is the truth; the search index can always be made again from it.
--
-- Files and images are two things: `files` says where, `images` says what. So a file that is moved,
-- renamed or copied is never embedded again, and copies share one vector.

-- Folders the user named. Paths are bytes everywhere: names that are not UTF-8 survive.
CREATE TABLE roots (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE
);

-- AUTOINCREMENT, because the search index and exports use the same numbers: they are never reused.
CREATE TABLE images (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    content_hash BLOB NOT NULL UNIQUE CHECK (length(content_hash) = 32),
    width        INTEGER NOT NULL,
    height       INTEGER NOT NULL,
    format       TEXT NOT NULL
);

-- Size and modification time tell whether a file must be opened again.
CREATE TABLE files (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    root_id  INTEGER NOT NULL REFERENCES roots (id),
    path     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    image_id INTEGER NOT NULL REFERENCES images (id),
    UNIQUE (root_id, path)
);
CREATE INDEX files_by_image ON files (image_id);

-- A fingerprint covers the network's bytes, its preprocessing, output and width: vectors of two
-- fingerprints never meet.
CREATE TABLE models (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint   BLOB NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    name          TEXT NOT NULL,
    width         INTEGER NOT NULL,
    preprocessing TEXT NOT NULL
);

-- `features`: width × 4 bytes, little-endian f32, as the network gave them. `id` grows with time, so
-- an index knows by one number which embeddings are newer than itself.
CREATE TABLE embeddings (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    image_id INTEGER NOT NULL REFERENCES images (id),
    model_id INTEGER NOT NULL REFERENCES models (id),
    features BLOB NOT NULL,
    UNIQUE (model_id, image_id)
);

-- Files that could not be indexed, so that they are not opened again until they change or a version
-- with another `decoder` may know better. `worth_telling` is 0 for what is no picture at all.
CREATE TABLE skipped (
    root_id       INTEGER NOT NULL REFERENCES roots (id),
    path          BLOB NOT NULL,
    size          INTEGER NOT NULL,
    mtime_ns      INTEGER NOT NULL,
    decoder       INTEGER NOT NULL,
    worth_telling INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    PRIMARY KEY (root_id, path)
) WITHOUT ROWID;

-- One row: which library this is, and the model that `find` uses when none is named.
CREATE TABLE library (
    uuid          TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    current_model INTEGER REFERENCES models (id)
);
INSERT INTO library (uuid, created_at) VALUES (
    lower(hex(randomblob(16))), strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
);

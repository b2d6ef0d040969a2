-- What other systems hold of the library, so that a push sends what changed and nothing else.
--
-- A number as the highest embedding so far would tell what is new, but not what moved, what was renamed, or what
-- no file holds any more. So each row that a server acknowledged is written down, with a hash of what was
-- sent beside the vector; the vector of an image and a model never changes.

-- One collection and the model whose vectors it holds. `token` is random and stands in the collection, too: a
-- server has many addresses, and another collection under the same one, made after the first was deleted,
-- has another token. `address` is where it was made or found last.
CREATE TABLE pushes (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    token    TEXT NOT NULL UNIQUE,
    address  TEXT NOT NULL,
    model_id INTEGER NOT NULL REFERENCES models (id)
);

CREATE TABLE pushed (
    push_id  INTEGER NOT NULL REFERENCES pushes (id),
    image_id INTEGER NOT NULL REFERENCES images (id),
    facts    BLOB NOT NULL CHECK (length(facts) = 16),
    PRIMARY KEY (push_id, image_id)
) WITHOUT ROWID;

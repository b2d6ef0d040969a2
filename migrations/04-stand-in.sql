-- A model that nobody chose, and that was taken because the default could not be had, gives way once that can be
-- had and has features of as many images. One that was chosen stays.

-- The name of the model that the current one stands in for; NULL where it stands for itself.
ALTER TABLE library ADD COLUMN stands_in_for TEXT;

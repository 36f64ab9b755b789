-- How far the deliveries of each source's hooks are accounted for.
CREATE TABLE swept (
    source TEXT NOT NULL,
    hook   TEXT NOT NULL,
    until  TEXT NOT NULL,
    PRIMARY KEY (source, hook)
) STRICT;

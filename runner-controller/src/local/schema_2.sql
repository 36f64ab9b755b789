-- What Stint found out about a job, as JSON like `report`.
ALTER TABLE jobs ADD COLUMN found TEXT NOT NULL DEFAULT '{}';

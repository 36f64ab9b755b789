-- The latest rows of each class; the row's number is part of every index.
CREATE INDEX ledger_by_for_class ON ledger (for_class);

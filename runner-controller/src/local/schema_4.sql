-- Id of the ledger that holds the bills of these records' runners; empty while nothing has acted on them.
ALTER TABLE reservations_epoch ADD COLUMN ledger TEXT NOT NULL DEFAULT '';

-- How a webhook is told: in Tollgate's words, or in those of AWS's SaaS Builder Toolkit.
ALTER TABLE webhooks ADD COLUMN format TEXT NOT NULL DEFAULT 'standard';

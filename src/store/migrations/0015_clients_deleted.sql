-- A client that was deleted stays for as long as it is to hear of the ends of its sessions, and is nobody to everybody else.
ALTER TABLE clients ADD COLUMN deleted_at {time};
CREATE INDEX clients_deleted ON clients (deleted_at) WHERE deleted_at IS NOT NULL;

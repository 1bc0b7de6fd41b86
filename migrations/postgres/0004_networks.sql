-- Payments on several networks: the ledger's first block is noted for each.
INSERT INTO deployment (name, value)
SELECT 'first_block.' || network.value, block.value
FROM deployment AS network, deployment AS block
WHERE network.name = 'network' AND block.name = 'first_block';

DELETE FROM deployment WHERE name IN ('network', 'first_block');

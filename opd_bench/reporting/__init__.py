"""From records to tables: no torch, no training stack."""

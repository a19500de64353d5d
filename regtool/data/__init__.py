"""Data: pairs tables, dataset readers, phantoms, augmentation."""

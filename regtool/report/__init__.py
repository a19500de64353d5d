"""Reports: one self-contained page for a registered pair or for a cohort."""

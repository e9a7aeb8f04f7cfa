"""Pictures, tables and reports as pure functions of records. The only importer of plotly."""

"""Numbers, markdown, charts and pictures: how results are written and drawn."""

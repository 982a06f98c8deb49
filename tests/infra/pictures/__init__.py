"""Pictures of the dashboards, drawn from the template's own definition with invented figures."""

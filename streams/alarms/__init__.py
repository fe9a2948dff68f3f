"""The alarm port: conditions that stay in the database until people were told. Knows nothing of tasks or money."""

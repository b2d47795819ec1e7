"""Models and their versions, as `/api/models` knows them."""

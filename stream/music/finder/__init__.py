"""Finding the keys of a piano in a picture, and following them."""

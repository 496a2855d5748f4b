"""The Blue Marble world: real satellite pictures of real places, made on the first run."""

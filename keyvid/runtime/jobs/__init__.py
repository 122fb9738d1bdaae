"""Jobs: one clip or many, and the files that come of them."""

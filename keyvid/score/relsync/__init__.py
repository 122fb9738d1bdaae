"""RelSync: whether clips match their sound as well as true ones do, by the paper's judge."""

"""The pages: server-rendered HTML without outside assets; every text escaped by `markup`."""

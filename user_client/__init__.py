"""What a user knows: its data, labels, front and head."""

import protos  # noqa: F401  before gRPC, whose environment it sets

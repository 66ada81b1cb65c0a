"""What the edge knows: features, output gradients, losses and weights; never labels."""

import protos  # noqa: F401  before gRPC, whose environment it sets

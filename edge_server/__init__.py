"""What the edge knows: features, output gradients, losses and weights; never labels."""

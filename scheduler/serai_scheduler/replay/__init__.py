"""One API simulated over recorded traffic, steered by the product's own policies. Pure."""

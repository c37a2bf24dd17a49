"""The autoscaler with what it asks beyond the gateways: real processes."""

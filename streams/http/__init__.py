"""HTTP beside the streams: health and metrics, answered from what was sampled in the background."""

"""An example: an LSTM classifier of one's own, made compact by grow-and-prune."""

"""Curves of one device: windows of products and of an LSTM, and the paper's Figs. 1 to 3."""

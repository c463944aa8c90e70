"""Language modelling: texts, the H-LSTM with masks and the baseline, perplexity."""

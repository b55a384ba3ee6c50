"""How a training is started, watched and resumed."""

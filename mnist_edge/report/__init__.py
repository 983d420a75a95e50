"""How well a model does, to look at: plots, sheets of its mistakes (Pillow), and the page that `report` writes."""

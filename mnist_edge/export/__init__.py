"""Export a trained model, and prove that every exported file answers as the model does.

Apart from the command line, only this package imports both `training` and `runtime`.
"""

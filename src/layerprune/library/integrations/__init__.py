"""ConcurrentPruner in the trainers of other libraries; each module needs its extra: layerprune[lightning], ...

layerprune.library.integrations.lightning.PruneLayers        a callback of Lightning's Trainer
layerprune.library.integrations.transformers.PruneLayers     a callback of Hugging Face's Trainer
"""

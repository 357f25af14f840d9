"""ConcurrentPruner in the trainers of other libraries; each module needs its extra: layerprune[lightning], ...

layerprune.integrations.lightning.PruneLayers        a callback of Lightning's Trainer
layerprune.integrations.transformers.PruneLayers     a callback of Hugging Face's Trainer
"""

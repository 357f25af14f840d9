"""Concurrent layer pruning of networks that nobody here has seen: found sections, gates, removal.

sections = find_sections(model, example_input)
pruner = ConcurrentPruner(model, sections, optimizer, total_steps=..., target_macs=0.6)
...  loss.backward(); optimizer.step(); pruner.step()  ...
smaller = pruner.export()
"""

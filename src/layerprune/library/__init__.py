"""Concurrent layer pruning of networks that nobody here has seen: found sections, gates, removal.

sections = find_sections(model, example_input)
pruner = ConcurrentPruner(model, sections, optimizer, total_steps=..., target_macs=0.6)
...  loss.backward(); optimizer.step(); pruner.step()  ...
smaller = pruner.export()

What a user calls has a module of its name: find_sections, concurrent_pruner, prune_by_scores; save and load are in
network_files, measure_latency in latency, the trainers' callbacks in integrations. Below them: tracing and known_shapes
(a model's graph), rewriting (its new forward method), scored_network (what a score looks at), onnx_files.
"""

"""Concurrent layer pruning of any residual network: finding sections, gating them, removing them.

sections = find_sections(model, example_input)
pruner = ConcurrentPruner(model, sections, optimizer, total_steps=..., target_macs=0.6)
...  loss.backward(); optimizer.step(); pruner.step()  ...
smaller = pruner.export()

What a user calls has a module of its name: find_sections, concurrent_pruner, prune_by_scores; save and load are in
network_files, measure_latency in latency, the trainers' callbacks in integrations, register_block in
registered_blocks. A pruner's parts: aims, memory and loss_allowance (how far it prunes), gated_training, pruner_checks,
distillation, pruning_report, pruning_plot. Below them: recording (what a model computes), residuals (its additions),
blocks (whole ones), plain_layers (without additions), gates and code_gates, removal and absence (what has gone),
rewriting (gates and removal of one model), caches and whole_layers (of Transformers' models), scored_network and
scored_batches (what a score looks at), onnx_files.
"""

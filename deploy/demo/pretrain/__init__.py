"""Pretraining of the small chat model that ships with the project.

`python -m deploy.demo.pretrain --out deploy/model` reproduces the shipped folder. Importing this
package loads nothing heavy; its modules need torch, tokenizers and transformers.
"""

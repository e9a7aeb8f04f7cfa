"""Sparse features of a model's residual stream: train, load, encode, measure. The only importer of sae_lens.

One site per dictionary, the residual stream after a block, with weights as they are in the checkpoint. A text
is `Tokens`: its ids, which of them count (no BOS, no template, no special tokens) and which are a reply's. What
follows works on `Tokens`, so that training, measuring and reading treat the same positions.

    corpora   open_corpus(name_or_path, part="train", seed=0) -> Corpus
                  "hearth", .jsonl, Parquet file or folder, saved Hugging Face dataset, folder of .txt;
                  part "held_out" never overlaps with "train"
              samples(corpus, seed, place) -> Iterator[(Sample, Place)]      endless, in another order each time
    stream    tokens_of(tokenizer, sample, longest) -> list[Tokens]
              tokens_of_reply(tokenizer, chat: Rendered, reply) -> Tokens
              states(model, site, rows: Sequence[Tokens]) -> Iterator[(row, Tensor [pos, d_in])]
                  float32, every position; the forward pass ends at the site
              ActivationStream(model, site, corpus, batch=, buffer=, seed=)  iterator of Tensor [batch, d_in]
    trainer   new_trainer, begin, fit, finish: SAELens' trainer step by step, for batches from anywhere
    train     train(model, site, settings: SaeSettings, folder, progress) -> folder       resumes
    shelf     shelf(roots) -> {name: folder}; find(name, roots); origin_of(folder) -> SaeOrigin; site_of(hook) -> Site
                  what the files say, read without torch
    load      load_sae(name_or_path, model, roots, force=False) -> Sae       checked against the model
              encode(sae, Tensor [..., d_in]) -> Tensor [..., d_sae];  decode(sae, Tensor [..., d_sae]) -> [..., d_in]
              decoder_rows(sae) -> ndarray [d_sae, d_in];  decoder_bias(sae) -> ndarray [d_in]
              encode_tokens(sae, model, rows: Sequence[Tokens]) -> Iterator[(row, csr_array [pos, d_sae])]
    quality   held_out_tokens(model, corpus, texts, seed) -> list[Tokens]
              measure(sae, model, rows, rng) -> SaeQuality                   intervals by text
              spliced(model, site, rule, counts)                             `with`: states put in another's place

A pipeline asks `lab.pipelines.sae` (`lab sae train`, `list`, `measure`); records are in `lab.records.features`.
"""

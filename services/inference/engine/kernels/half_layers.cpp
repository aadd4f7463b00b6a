// The two halves of a decoder layer with 8-bit weights, each in one call: norm, products and what lies between them. Ranks
// add up their parts between two halves, so a half is the most that one call can do. What a half needs for a moment lies in
// scratch memory that stays with the thread: fresh memory of this size costs a page fault for each 4 KiB.
//
// Legend: T tokens of the step, E hidden size, H query heads, G key/value heads, D head dimension, F inner size of the feed.
#include <cstring>
#include <vector>

#include "half_layers.h"

namespace {

// Memory for `count` numbers, whatever they are. One for each use, so that uses never overlap.
template <int Use>
float* scratch(int64_t count) {
  static thread_local std::vector<float> memory;
  if (static_cast<int64_t>(memory.size()) < count) memory.resize(count);
  return memory.data();
}

void apply(const Product& product, const float* x, int64_t rows, float* y) {
  mesh_linear_int8(x, rows, product.inputs, product.inputs, product.packed, product.scales, product.bias, product.outputs, y,
                   product.outputs);
}

}  // namespace

extern "C" {

// x [T, E] grows by delta (unless null); part [T, E] becomes what this rank's heads add to it. keys, values: the layer's cache.
void mesh_attention_half(const AttentionHalf* half, const Step* step, float* keys, float* values, float* x, const float* delta,
                         float* part) {
  const int64_t rows = step->token_count, width = half->output.outputs;
  float* normed = scratch<0>(rows * width);
  mesh_rms_norm(x, delta, half->norm, half->epsilon, rows, width, normed);
  if (half->heads == 0) {
    std::memset(part, 0, rows * width * sizeof(float));
    return;
  }
  float* qkv = scratch<1>(rows * half->query_key_value.outputs);
  apply(half->query_key_value, normed, rows, qkv);
  mesh_rotate_and_store(qkv, rows, half->heads, half->kv_heads, half->dim, step->positions, half->cosine, half->sine, half->query_norm,
                        half->key_norm, half->head_epsilon, step->slots, keys, values);
  float* mixed = scratch<2>(rows * half->heads * half->dim);
  mesh_attend(qkv, mixed, half->heads, half->kv_heads, half->dim, keys, values, step->chunk_count, step->begins, step->starts,
              step->tables, step->table_begins, half->window, half->scaling);
  apply(half->output, mixed, rows, part);
}

// x [T, E] grows by delta (unless null); part [T, E] becomes what this rank's share of the feed adds to it.
void mesh_feed_half(const FeedHalf* half, int64_t rows, float* x, const float* delta, float* part) {
  float* normed = scratch<0>(rows * half->down.outputs);
  mesh_rms_norm(x, delta, half->norm, half->epsilon, rows, half->down.outputs, normed);
  float* gate_up = scratch<1>(rows * half->gate_up.outputs);
  apply(half->gate_up, normed, rows, gate_up);
  float* gated = scratch<2>(rows * half->down.inputs);
  mesh_gate(gate_up, rows, half->down.inputs, static_cast<int>(half->activation), gated);
  apply(half->down, gated, rows, part);
}
}

// What the two halves are told, in the order of their twins in native.py, and the kernels that they call.
#pragma once
#include <cstdint>

struct Product {
  const int8_t* packed;
  const float *scales, *bias;
  int64_t outputs, inputs;
};

struct AttentionHalf {
  const float* norm;
  Product query_key_value, output;
  int64_t heads, kv_heads, dim;
  const float *cosine, *sine, *query_norm, *key_norm;
  int64_t window;
  float epsilon, head_epsilon, scaling;
};

struct FeedHalf {
  const float* norm;
  Product gate_up, down;
  int64_t activation;
  float epsilon;
};

struct Step {
  int64_t token_count;
  const int64_t *positions, *slots;
  int64_t chunk_count;
  const int64_t *begins, *starts;
  const int32_t* tables;
  const int64_t* table_begins;
};

extern "C" {
void mesh_linear_int8(const float* x, int64_t m, int64_t k, int64_t x_stride, const int8_t* packed, const float* scales,
                      const float* bias, int64_t n, float* y, int64_t y_stride);
void mesh_rms_norm(float* x, const float* delta, const float* weight, float epsilon, int64_t rows, int64_t width, float* y);
void mesh_gate(const float* gate_up, int64_t rows, int64_t width, int kind, float* y);
void mesh_rotate_and_store(float* qkv, int64_t t_count, int64_t heads, int64_t kv_heads, int64_t dim, const int64_t* positions,
                           const float* cosine, const float* sine, const float* q_norm, const float* k_norm, float epsilon,
                           const int64_t* slots, float* keys, float* values);
void mesh_attend(const float* qkv, float* output, int64_t heads, int64_t kv_heads, int64_t dim, const float* keys, const float* values,
                 int64_t chunk_count, const int64_t* begins, const int64_t* starts, const int32_t* tables,
                 const int64_t* table_begins, int64_t window, float scaling);
}

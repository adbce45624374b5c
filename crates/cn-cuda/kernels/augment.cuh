// Images of bytes to normalised batches, bit for bit as on the CPU: Pillow's two-pass resize, and the affine warp.
#pragma once
#include "portable.cuh"

// cn-augment's `Geometry`, field by field.
struct Geometry {
    uint32_t size, flags;
    uint32_t source[4];
    uint32_t full, offset;
    float matrix[6];
    float gain, bias;
    uint32_t erased[4];
    uint32_t border;
};

// What a batch holds of each pixel: plane p is (level / 255 - mean[p]) / std[p], or 1 where ones[p] is set.
struct Planes {
    double mean[3], std[3];
    uint32_t ones[3];
    uint32_t count;
};

struct ImageStack {
    const uint8_t *pixels;
    int height, width, channels;
};

// The window of one output position along one axis (cn-kernels' `Axis::bilinear`).
struct Window {
    int low, high;
    double centre, per_support, sum;
};

DEVICE double triangle(const Window &w, int i) {
    double at = exact_mul(exact_add(exact_add((double)i, -w.centre), 0.5), w.per_support);
    double value = exact_add(1.0, -fabs(at));
    return value > 0.0 ? value : 0.0;
}

DEVICE Window window_of(int o, int n_in, int n_out) {
    Window w;
    double scale = exact_div((double)n_in, (double)n_out);
    double support = scale > 1.0 ? scale : 1.0;
    w.centre = exact_mul(exact_add((double)o, 0.5), scale);
    double low = exact_add(exact_add(w.centre, -support), 0.5);
    w.low = low > 0.0 ? (int)low : 0;
    int high = (int)exact_add(exact_add(w.centre, support), 0.5);
    w.high = high < n_in ? high : n_in;
    w.per_support = exact_div(1.0, support);
    w.sum = 0.0;
    for (int i = w.low; i < w.high; i++) w.sum = exact_add(w.sum, triangle(w, i));
    return w;
}

// 22 fractional bits; 8 bits of pixel and the weights' sum of one stay below 2^31.
DEVICE int weight_of(const Window &w, int i) {
    return (int)exact_add(0.5, exact_mul(exact_div(triangle(w, i), w.sum), 4194304.0));
}

DEVICE int to_byte(int sum) {
    int byte = sum >> 22;
    return byte < 255 ? byte : 255;
}

// One pixel of the resized source; (column, row) counts in the full square.
DEVICE void resize_pixel(const ImageStack &s, const uint8_t *image, const Geometry &g, int column, int row, int *out) {
    const int half = 1 << 21;
    int left = g.source[0], top = g.source[1], width = g.source[2], height = g.source[3], full = g.full;
    bool across = width != full, down = height != full;
    Window wx = {column, column + 1, 0, 0, 0}, wy = {row, row + 1, 0, 0, 0};
    if (across) wx = window_of(column, width, full);
    if (down) wy = window_of(row, height, full);
    int sums[3] = {half, half, half};
    for (int y = wy.low; y < wy.high; y++) {
        const uint8_t *line = image + ((int64_t)(top + y) * s.width + left) * s.channels;
        int bytes[3] = {half, half, half};
        for (int x = wx.low; x < wx.high; x++) {
            int weight = across ? weight_of(wx, x) : 0;
            for (int c = 0; c < s.channels; c++) {
                int value = line[x * s.channels + c];
                bytes[c] = across ? bytes[c] + value * weight : value;
            }
        }
        int weight = down ? weight_of(wy, y) : 0;
        for (int c = 0; c < s.channels; c++) {
            int value = across ? to_byte(bytes[c]) : bytes[c];
            sums[c] = down ? sums[c] + value * weight : value;
        }
    }
    for (int c = 0; c < s.channels; c++) out[c] = down ? to_byte(sums[c]) : sums[c];
}

// Positions along an axis, and pixels of each one's window, that a block's tables hold.
#define TABLE_COLUMNS 512
#define TABLE_ROWS 64
#define TABLE_TAPS 8

// Windows of the columns, or of the rows, that a block makes, with their weights: most pixels of a block share them, and
// divisions in f64 are most of the work of one.
template <int N>
struct Windows {
    int low[N], count[N], weights[TABLE_TAPS][N];
};

// Whether no window along this axis has more pixels than a table: one of support s has at most 2 s + 1.
DEVICE bool has_few_taps(uint32_t n_in, uint32_t n_out) { return 2 * (uint64_t)n_in <= (TABLE_TAPS - 1) * (uint64_t)n_out; }

// The window of output position `o` as entry `i`; a weight of one gives back the byte where nothing is resized.
template <int N>
DEVICE void tabulate(Windows<N> &table, int i, int o, int n_in, int n_out) {
    if (n_in == n_out) {
        table.low[i] = o, table.count[i] = 1, table.weights[0][i] = 1 << 22;
        return;
    }
    Window w = window_of(o, n_in, n_out);
    table.low[i] = w.low, table.count[i] = w.high - w.low;
    for (int tap = 0; tap < w.high - w.low; tap++) table.weights[tap][i] = weight_of(w, w.low + tap);
}

// As `resize_pixel`, for entries of the tables.
template <int CHANNELS>
DEVICE void resize_tabulated(const ImageStack &s, const uint8_t *source, const Windows<TABLE_COLUMNS> &columns,
                             const Windows<TABLE_ROWS> &rows, int column, int row, int *out) {
    const int half = 1 << 21;
    int sums[CHANNELS];
    for (int c = 0; c < CHANNELS; c++) sums[c] = half;
    int n_columns = columns.count[column], n_rows = rows.count[row];
    const uint8_t *line = source + ((int64_t)rows.low[row] * s.width + columns.low[column]) * CHANNELS;
    for (int y = 0; y < n_rows; y++, line += s.width * CHANNELS) {
        int bytes[CHANNELS];
        for (int c = 0; c < CHANNELS; c++) bytes[c] = half;
        for (int x = 0; x < n_columns; x++) {
            int weight = columns.weights[x][column];
            for (int c = 0; c < CHANNELS; c++) bytes[c] += line[x * CHANNELS + c] * weight;
        }
        int weight = rows.weights[y][row];
        for (int c = 0; c < CHANNELS; c++) sums[c] += to_byte(bytes[c]) * weight;
    }
    for (int c = 0; c < CHANNELS; c++) out[c] = to_byte(sums[c]);
}

// Fixed point with 24 fractional bits, cut beyond 2^30 pixels; ties away from zero.
DEVICE int64_t to_fixed(double value) {
    const double limit = 1073741824.0;
    double cut = value < -limit ? -limit : (value > limit ? limit : value);
    return (int64_t)round(exact_mul(cut, 16777216.0));
}

// Where an output position lies in the image with its margin of one pixel.
DEVICE int64_t position(const float *m, double x, double y) {
    double sum = exact_add(exact_mul((double)m[0], x), exact_mul((double)m[1], y));
    return to_fixed(exact_add(exact_add(sum, (double)m[2]), 0.5));
}

DEVICE int64_t step_along(const float *m, int samples) {
    const int64_t limit = (int64_t)1 << 44;
    int64_t step = to_fixed(exact_div((double)m[0], (double)samples));
    return step < -limit ? -limit : (step > limit ? limit : step);
}

DEVICE int samples_along(const float *m, int axis) {
    double dx = m[axis], dy = m[3 + axis];
    double length = round(sqrt(exact_add(exact_mul(dx, dx), exact_mul(dy, dy))));
    return length < 1.0 ? 1 : (length > 16.0 ? 16 : (int)length);
}

// A byte of the image with its margin: one border pixel before, two after.
DEVICE int padded(const ImageStack &s, const uint8_t *image, int column, int row, int c, int border) {
    int x = column - 1, y = row - 1;
    if (x < 0 || y < 0 || x >= s.width || y >= s.height) return border;
    return image[((int64_t)y * s.width + x) * s.channels + c];
}

// The weighted mean of the four pixels around a position, times 2^22.
DEVICE uint32_t read_at(const ImageStack &s, const uint8_t *image, int64_t x, int64_t y, int c, int border) {
    int column = (int)(x >> 24), row = (int)(y >> 24);
    int right = (int)(x >> 13) & 2047, low = (int)(y >> 13) & 2047;
    int along[2];
    for (int i = 0; i < 2; i++) {
        int from = padded(s, image, column, row + i, c, border), to = padded(s, image, column + 1, row + i, c, border);
        along[i] = (from << 11) + (to - from) * right;
    }
    return (uint32_t)((along[0] << 11) + (along[1] - along[0]) * low);
}

DEVICE bool inside(const ImageStack &s, int64_t x, int64_t y) {
    return x >= 0 && y >= 0 && x <= ((int64_t)s.width + 1) << 24 && y <= ((int64_t)s.height + 1) << 24;
}

DEVICE int64_t clamped(int64_t at, int64_t limit) { return at < 0 ? 0 : (at > limit ? limit : at); }

// What all pixels of a warped image share: samples of a pixel, across and down, and the steps from one to the next.
struct Sampling {
    int nx, ny;
    int64_t step_x, step_y;
};

DEVICE Sampling sampling_of(const Geometry &g) {
    Sampling s;
    s.nx = samples_along(g.matrix, 0), s.ny = samples_along(g.matrix, 1);
    s.step_x = step_along(g.matrix, s.nx), s.step_y = step_along(g.matrix + 3, s.nx);
    return s;
}

DEVICE void warp_pixel(const ImageStack &s, const uint8_t *image, const Geometry &g, const Sampling &sampling, int column,
                       int row, int *out) {
    const float *across = g.matrix, *down = g.matrix + 3;
    int nx = sampling.nx, ny = sampling.ny;
    int64_t step_x = sampling.step_x, step_y = sampling.step_y;
    int border = g.border;
    if (nx == 1 && ny == 1) {
        double y = exact_add((double)row, 0.5);
        int64_t at_x = position(across, 0.5, y) + step_x * column;
        int64_t at_y = position(down, 0.5, y) + step_y * column;
        bool in = inside(s, at_x, at_y);
        for (int c = 0; c < s.channels; c++) {
            out[c] = in ? (int)((read_at(s, image, at_x, at_y, c, border) + (1u << 21)) >> 22) : border;
        }
        return;
    }
    int64_t limit_x = ((int64_t)s.width + 1) << 24, limit_y = ((int64_t)s.height + 1) << 24;
    uint64_t total = (uint64_t)(nx * ny) << 22;
    uint64_t sums[3] = {total / 2, total / 2, total / 2};
    double first = exact_div(0.5, (double)nx);
    for (int j = 0; j < ny; j++) {
        double y = exact_add((double)row, exact_div(exact_add((double)j, 0.5), (double)ny));
        int64_t start_x = position(across, first, y), start_y = position(down, first, y);
        for (int i = 0; i < nx; i++) {
            int64_t n = (int64_t)column * nx + i;
            int64_t x = clamped(start_x + step_x * n, limit_x), at_y = clamped(start_y + step_y * n, limit_y);
            for (int c = 0; c < s.channels; c++) sums[c] += read_at(s, image, x, at_y, c, border);
        }
    }
    for (int c = 0; c < s.channels; c++) out[c] = (int)(sums[c] / total);
}

// A level as plane p of the batch.
DEVICE float normalised(const Planes &planes, int p, int byte, float gain, float bias) {
    if (planes.ones[p]) return 1.0f;
    double level = exact_add(exact_mul((double)gain, (double)byte), (double)bias);
    level = level < 0.0 ? 0.0 : (level > 255.0 ? 255.0 : level);
    return (float)exact_div(exact_add(exact_div(level, 255.0), -planes.mean[p]), planes.std[p]);
}

DEVICE int luma(const int *rgb) { return (int)(((uint32_t)rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16); }

// Threads of a block.
#define AUGMENT_THREADS 256

// A block makes `piece` pixels of one image: (B, S, S, P), grid (pieces of an image, B). What each byte becomes, and the
// weights of its columns and rows, are computed once for the block.
template <class T>
DEVICE void augment(const ImageStack &stack, const uint32_t *ids, const Geometry *geometry, const Planes &planes, uint32_t piece, T *out) {
    SHARED T levels[3][256];
    SHARED Windows<TABLE_COLUMNS> columns;
    SHARED Windows<TABLE_ROWS> rows;
    const Geometry g = geometry[blockIdx.y];
    int count = planes.count, size = g.size, channels = stack.channels;
    uint32_t n = (uint32_t)size * size, begin = blockIdx.x * piece, end = begin + piece < n ? begin + piece : n;
    int first_row = (int)(begin / size), n_rows = (int)((end - 1) / size) - first_row + 1;
    bool warped = g.flags & 1;
    bool tabulated = !warped && size <= TABLE_COLUMNS && n_rows <= TABLE_ROWS && has_few_taps(g.source[2], g.full) &&
                     has_few_taps(g.source[3], g.full);
    for (int p = 0; p < count; p++) store(&levels[p][threadIdx.x], normalised(planes, p, threadIdx.x, g.gain, g.bias));
    if (tabulated) {
        for (int i = threadIdx.x; i < size + n_rows; i += AUGMENT_THREADS) {
            if (i < size) {
                tabulate(columns, i, i + g.offset, g.source[2], g.full);
            } else {
                tabulate(rows, i - size, i - size + first_row + g.offset, g.source[3], g.full);
            }
        }
    }
    Sampling sampling = {1, 1, 0, 0};
    if (warped) sampling = sampling_of(g);
    BARRIER();
    const uint8_t *image = stack.pixels + (int64_t)ids[blockIdx.y] * stack.height * stack.width * channels;
    const uint8_t *source = image + ((int64_t)g.source[1] * stack.width + g.source[0]) * channels;
    T *own = out + (int64_t)blockIdx.y * n * count;
    for (uint32_t i = begin + threadIdx.x; i < end; i += AUGMENT_THREADS) {
        int x = (int)(i % size), y = (int)(i / size);
        int bytes[3];
        int column = g.flags & 2 ? size - 1 - x : x;
        bool erased = (uint32_t)x - g.erased[0] < g.erased[2] && (uint32_t)y - g.erased[1] < g.erased[3];
        bool is_grey = erased || channels == 1;
        if (erased) {
            bytes[0] = g.border;
        } else if (warped) {
            warp_pixel(stack, image, g, sampling, column, y, bytes);
        } else if (tabulated && channels == 1) {
            resize_tabulated<1>(stack, source, columns, rows, column, y - first_row, bytes);
        } else if (tabulated) {
            resize_tabulated<3>(stack, source, columns, rows, column, y - first_row, bytes);
        } else {
            resize_pixel(stack, image, g, column + g.offset, y + g.offset, bytes);
        }
        if (!is_grey && count != 3) bytes[0] = luma(bytes), is_grey = true;
        for (int p = 0; p < count; p++) own[i * count + p] = levels[p][bytes[is_grey ? 0 : p]];
    }
}

KERNELS_OF_BLOCKS(augment, AUGMENT_THREADS, 3, (ImageStack stack, const uint32_t *ids, const Geometry *geometry, Planes planes, uint32_t piece, T *out), {
    augment<T>(stack, ids, geometry, planes, piece, out);
})

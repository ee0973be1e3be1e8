/* Runs a fuzz target without a fuzzing engine: each file named is an input, and so are RUNS
 * mutations of it. usage: fuzz_x RUNS SEED FILE…   (with clang, -fsanitize=fuzzer takes this file's
 * place) */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void
mutate_and_run(GRand *random, const char *contents, gsize length)
{
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_byte_array_append(input, (const guint8 *)contents, (guint)length);
    for (int changes = g_rand_int_range(random, 1, 5); changes > 0 && input->len > 0; changes--) {
        guint at = (guint)g_rand_int_range(random, 0, (gint32)input->len);
        switch (g_rand_int_range(random, 0, 4)) {
        case 0:
            input->data[at] = (guint8)g_rand_int_range(random, 0, 256);
            break;
        case 1:
            g_byte_array_remove_index(input, at);
            break;
        case 2: /* a piece again, somewhere else */
            g_byte_array_append(input, (const guint8 *)contents + at % length,
                                (guint)(length - at % length));
            break;
        default:
            g_byte_array_set_size(input, at);
        }
    }
    g_autofree guint8 *exact = g_memdup2(input->data, input->len);
    LLVMFuzzerTestOneInput(exact != NULL ? exact : (const guint8 *)"", input->len);
}

int
main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    guint64 runs = g_ascii_strtoull(argv[1], NULL, 10);
    g_autoptr(GRand) random = g_rand_new_with_seed((guint32)g_ascii_strtoull(argv[2], NULL, 10));
    for (int i = 3; i < argc; i++) {
        g_autofree char *contents = NULL;
        gsize length = 0;
        if (!g_file_get_contents(argv[i], &contents, &length, NULL))
            return 2;
        LLVMFuzzerTestOneInput((const guint8 *)contents, length);
        for (guint64 run = 0; run < runs && length > 0; run++)
            mutate_and_run(random, contents, length);
    }
    return 0;
}

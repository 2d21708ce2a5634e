#include "scale.h"
void churn_run(int argc, char **argv) { (void)argc; (void)argv; die("not here"); }

/* Makes the SQLite file that the test of user_history_checker reads. */
#include <sqlite3.h>
#include <stdio.h>

int main(int count, char **arguments) {
    sqlite3 *database;
    if (count != 2 || sqlite3_open(arguments[1], &database) != SQLITE_OK) return 1;
    const char *sql = "CREATE TABLE payments(user TEXT, amount REAL, chargeback INTEGER);"
                      "INSERT INTO payments VALUES ('u-1', 100, 0), ('u-1', 20.5, 1), ('u-2', 7, 0);";
    int result = sqlite3_exec(database, sql, NULL, NULL, NULL);
    if (result != SQLITE_OK) fprintf(stderr, "%s\n", sqlite3_errmsg(database));
    sqlite3_close(database);
    return result;
}

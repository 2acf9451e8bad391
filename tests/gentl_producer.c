/* A GenTL producer with one camera, as far as harvesters uses it. Files in the folder $GENTL_CAMERA say what happens to it:
   camera.xml: its features; module.xml: none. unplugged: it is not found, and does not answer. incomplete: its buffers are not filled. hang:
   waiting for a buffer never ends. crash: waiting for a buffer ends the process. late_ms: from a trigger to its picture.
   pulse: is deleted, and triggers Line0. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
typedef int32_t Error;
typedef void *Handle;
enum { OK = 0, FAILED = -1001, NOT_IMPLEMENTED = -1003, IN_USE = -1004, INVALID_ID = -1007, NO_DATA = -1008, IO = -1010,
       TIMEOUT = -1011, NOT_AVAILABLE = -1014, TOO_SMALL = -1016 };
enum { STRING = 1, INT32 = 5, UINT64 = 8, PTR = 10, BOOL8 = 11, SIZE = 12 };
enum { WIDTH = 0, HEIGHT = 4, FORMAT = 8, PAYLOAD = 12, START = 16, STOP = 20, TRIGGER_MODE = 24, TRIGGER_SOURCE = 28, FIRE = 32,
       RATE = 64, END = 256 };
enum { SOFTWARE = 0, LINE0 = 1 };

typedef struct { void *base, *user; size_t size; int queued, incomplete; uint64_t frame; } Buffer;

static char system_, interface_, device, port, stream, event_;
static uint8_t registers[END];
static Buffer buffers[32];
static int announced, queue[32], queued, grabbing, pulses, open_;
static uint64_t frames, triggers;
static struct { double at; uint64_t number; } due[64]; /* pictures on their way: when they come, what they count */
static int waiting;
static uint64_t shown;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static const char *in_folder(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", getenv("GENTL_CAMERA"), name);
    return path;
}

static int there(const char *name) { return access(in_folder(name), F_OK) == 0; }

static void take_picture(double at, uint64_t number) {
    due[waiting].at = at;
    due[waiting++ % 64].number = number;
}

static double late_s(void) {
    FILE *file = fopen(in_folder("late_ms"), "r");
    double ms = 0;
    if (file) {
        if (fscanf(file, "%lf", &ms) != 1) ms = 0;
        fclose(file);
    }
    return ms / 1e3;
}

static uint32_t number(int address) { uint32_t value; memcpy(&value, registers + address, 4); return value; }
static void set_number(int address, uint32_t value) { memcpy(registers + address, &value, 4); }
static int sample_bytes(void) { return (number(FORMAT) >> 16 & 0xff) / 8; } /* PFNC says the bits of a pixel */

static Error text(const char *value, int32_t *type, void *buffer, size_t *size) {
    size_t needed = strlen(value) + 1;
    if (type) *type = STRING;
    if (buffer && *size < needed) return TOO_SMALL;
    if (buffer) memcpy(buffer, value, needed);
    *size = needed;
    return OK;
}

static Error value(const void *from, size_t length, int32_t kind, int32_t *type, void *buffer, size_t *size) {
    if (type) *type = kind;
    if (buffer && *size < length) return TOO_SMALL;
    if (buffer) memcpy(buffer, from, length);
    *size = length;
    return OK;
}

static Error size_value(size_t number, int32_t *type, void *buffer, size_t *size) {
    return value(&number, sizeof number, SIZE, type, buffer, size);
}

static Error int_value(int32_t number, int32_t *type, void *buffer, size_t *size) {
    return value(&number, sizeof number, INT32, type, buffer, size);
}

static Error bool_value(int number, int32_t *type, void *buffer, size_t *size) {
    char is = number != 0;
    return value(&is, 1, BOOL8, type, buffer, size);
}

/* The library and the system */
API Error GCInitLib(void) {
    double rate = 50;
    memset(registers, 0, sizeof registers);
    set_number(WIDTH, 64); set_number(HEIGHT, 48); set_number(FORMAT, 0x01080001);
    memcpy(registers + RATE, &rate, 8);
    return OK;
}
API Error GCCloseLib(void) { return OK; }
API Error GCGetInfo(int32_t what, int32_t *type, void *buffer, size_t *size) {
    return what == 9 ? value(&(uint32_t){1}, 4, 6, type, buffer, size)
         : what == 10 ? value(&(uint32_t){5}, 4, 6, type, buffer, size)
         : what == 8 ? int_value(1, type, buffer, size)
         : text(what == 4 ? "Custom" : "Test", type, buffer, size);
}
API Error GCGetLastError(Error *code, char *message, size_t *size) { *code = FAILED; return text("of the test", 0, message, size); }
API Error TLOpen(Handle *handle) { *handle = &system_; return OK; }
API Error TLClose(Handle handle) { return OK; }
API Error TLGetInfo(Handle handle, int32_t what, int32_t *type, void *buffer, size_t *size) { return GCGetInfo(what, type, buffer, size); }
API Error TLUpdateInterfaceList(Handle handle, char *changed, uint64_t timeout) { if (changed) *changed = 1; return OK; }
API Error TLGetNumInterfaces(Handle handle, uint32_t *count) { *count = 1; return OK; }
API Error TLGetInterfaceID(Handle handle, uint32_t index, char *id, size_t *size) { return text("interface", 0, id, size); }
API Error TLGetInterfaceInfo(Handle handle, const char *id, int32_t what, int32_t *type, void *buffer, size_t *size) {
    return text(what == 2 ? "Custom" : "interface", type, buffer, size);
}
API Error TLOpenInterface(Handle handle, const char *id, Handle *opened) { *opened = &interface_; return OK; }
API Error IFClose(Handle handle) { return OK; }
API Error IFGetInfo(Handle handle, int32_t what, int32_t *type, void *buffer, size_t *size) {
    return text(what == 2 ? "Custom" : "interface", type, buffer, size);
}
API Error IFUpdateDeviceList(Handle handle, char *changed, uint64_t timeout) { if (changed) *changed = 1; return OK; }
API Error IFGetNumDevices(Handle handle, uint32_t *count) { *count = !there("unplugged"); return OK; }
API Error IFGetDeviceID(Handle handle, uint32_t index, char *id, size_t *size) { return text("camera", 0, id, size); }

/* The camera */
API Error DevGetInfo(Handle handle, int32_t what, int32_t *type, void *buffer, size_t *size) {
    switch (what) {
        case 0: return text("camera", type, buffer, size);
        case 1: return text("Test & Co", type, buffer, size);
        case 2: return text("One", type, buffer, size);
        case 3: return text("Custom", type, buffer, size);
        case 4: return text("Test One", type, buffer, size);
        case 5: return int_value(open_ ? 4 : 1, type, buffer, size);
        case 6: return text("line 4", type, buffer, size);
        case 7: return text("4711", type, buffer, size);
        default: return NOT_AVAILABLE;
    }
}
API Error IFGetDeviceInfo(Handle handle, const char *id, int32_t what, int32_t *type, void *buffer, size_t *size) {
    return DevGetInfo(handle, what, type, buffer, size);
}
API Error IFOpenDevice(Handle handle, const char *id, int32_t flags, Handle *opened) {
    if (there("unplugged")) return INVALID_ID;
    if (there("busy")) return IN_USE;
    *opened = &device;
    open_ = 1;
    return OK;
}
API Error DevClose(Handle handle) { open_ = 0; return OK; }
API Error DevGetPort(Handle handle, Handle *opened) { *opened = &port; return OK; }
API Error DevGetNumDataStreams(Handle handle, uint32_t *count) { *count = 1; return OK; }
API Error DevGetDataStreamID(Handle handle, uint32_t index, char *id, size_t *size) { return text("stream", 0, id, size); }
API Error DevOpenDataStream(Handle handle, const char *id, Handle *opened) { *opened = &stream; return OK; }

/* Its registers */
API Error GCReadPort(Handle handle, uint64_t address, void *buffer, size_t *size) {
    if (handle != &port || address + *size > END) return NOT_IMPLEMENTED;
    if (there("unplugged")) return IO;
    set_number(PAYLOAD, number(WIDTH) * number(HEIGHT) * sample_bytes());
    memcpy(buffer, registers + address, *size);
    return OK;
}
API Error GCWritePort(Handle handle, uint64_t address, const void *buffer, size_t *size) {
    if (handle != &port || address + *size > END) return NOT_IMPLEMENTED;
    if (there("unplugged")) return IO;
    memcpy(registers + address, buffer, *size);
    if (address == FIRE && number(TRIGGER_MODE) && number(TRIGGER_SOURCE) == SOFTWARE && grabbing) {
        take_picture(now() + late_s(), ++triggers);
    }
    return OK;
}
typedef struct { uint64_t address; void *buffer; size_t size; } Entry;
API Error GCReadPortStacked(Handle handle, Entry *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        Error error = GCReadPort(handle, entries[i].address, entries[i].buffer, &entries[i].size);
        if (error) return error;
    }
    return OK;
}
API Error GCWritePortStacked(Handle handle, Entry *entries, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        Error error = GCWritePort(handle, entries[i].address, entries[i].buffer, &entries[i].size);
        if (error) return error;
    }
    return OK;
}
API Error GCGetPortInfo(Handle handle, int32_t what, int32_t *type, void *buffer, size_t *size) {
    switch (what) {
        case 5: case 7: case 8: return bool_value(1, type, buffer, size);
        case 6: case 9: case 10: return bool_value(0, type, buffer, size);
        case 3: return text("Custom", type, buffer, size);
        default: return text(what == 12 ? "Device" : "module", type, buffer, size);
    }
}
API Error GCGetNumPortURLs(Handle handle, uint32_t *count) { *count = 1; return OK; }
API Error GCGetPortURLInfo(Handle handle, uint32_t index, int32_t what, int32_t *type, void *buffer, size_t *size) {
    char url[1100];
    snprintf(url, sizeof url, "file://%s", in_folder(handle == &port ? "camera.xml" : "module.xml"));
    return what == 0 ? text(url, type, buffer, size) : NOT_AVAILABLE;
}
API Error GCGetPortURL(Handle handle, char *url, size_t *size) { return GCGetPortURLInfo(handle, 0, 0, 0, url, size); }

/* Its stream */
API Error DSGetInfo(Handle handle, int32_t what, int32_t *type, void *buffer, size_t *size) {
    switch (what) {
        case 0: return text("stream", type, buffer, size);
        case 1: case 2: case 6: return value(&frames, 8, UINT64, type, buffer, size);
        case 3: return size_value(announced, type, buffer, size);
        case 4: return size_value(queued, type, buffer, size);
        case 5: return size_value(0, type, buffer, size);
        case 8: return bool_value(grabbing, type, buffer, size);
        case 9: return bool_value(0, type, buffer, size);
        case 10: return text("Custom", type, buffer, size);
        case 12: return size_value(2, type, buffer, size);
        default: return NOT_AVAILABLE;
    }
}
API Error DSAnnounceBuffer(Handle handle, void *base, size_t size, void *user, Handle *made) {
    Buffer *buffer = &buffers[announced++ % 32];
    *buffer = (Buffer){base, user, size, 0, 0, 0};
    *made = buffer;
    return OK;
}
API Error DSAllocAndAnnounceBuffer(Handle handle, size_t size, void *user, Handle *made) { return NOT_IMPLEMENTED; }
API Error DSRevokeBuffer(Handle handle, Handle buffer, void **base, void **user) {
    if (base) *base = 0;
    if (user) *user = ((Buffer *)buffer)->user;
    announced--;
    return OK;
}
API Error DSQueueBuffer(Handle handle, Handle buffer) {
    ((Buffer *)buffer)->queued = 1;
    queue[queued++] = (int)((Buffer *)buffer - buffers);
    return OK;
}
API Error DSFlushQueue(Handle handle, int32_t what) { queued = 0; return OK; }
API Error DSStartAcquisition(Handle handle, int32_t flags, uint64_t count) { grabbing = 1; waiting = 0; return OK; }
API Error DSStopAcquisition(Handle handle, int32_t flags) { grabbing = 0; waiting = 0; return OK; }
API Error DSGetBufferID(Handle handle, uint32_t index, Handle *buffer) { *buffer = &buffers[index]; return OK; }
API Error DSClose(Handle handle) { announced = queued = 0; return OK; }
API Error DSGetBufferInfo(Handle handle, Handle of, int32_t what, int32_t *type, void *to, size_t *size) {
    Buffer *buffer = of;
    switch (what) {
        case 0: return value(&buffer->base, 8, PTR, type, to, size);
        case 1: return size_value(buffer->size, type, to, size);
        case 2: return value(&buffer->user, 8, PTR, type, to, size);
        case 3: case 16: return value(&buffer->frame, 8, UINT64, type, to, size);
        case 4: case 17: return bool_value(1, type, to, size);
        case 5: return bool_value(buffer->queued, type, to, size);
        case 6: case 30: return bool_value(0, type, to, size);
        case 7: return bool_value(buffer->incomplete, type, to, size);
        case 8: return text("Custom", type, to, size);
        case 9: case 27: return size_value(number(WIDTH) * number(HEIGHT) * sample_bytes(), type, to, size);
        case 10: return size_value(number(WIDTH), type, to, size);
        case 11: case 22: return size_value(number(HEIGHT), type, to, size);
        case 12: case 13: case 14: case 15: case 18: return size_value(0, type, to, size);
        case 19: return size_value(1, type, to, size);
        case 20: return value(&(uint64_t){number(FORMAT)}, 8, UINT64, type, to, size);
        case 21: return value(&(uint64_t){4}, 8, UINT64, type, to, size);
        default: return NOT_AVAILABLE;
    }
}

/* Its pictures: quarters of red, green, blue, and a gray that counts triggers, or pictures where there is no trigger */
static int sample(int x, int y, int channel) {
    static const uint8_t colours[3][3] = {{200, 0, 0}, {0, 150, 0}, {0, 0, 250}};
    int quarter = (x >= (int)number(WIDTH) / 2) + 2 * (y >= (int)number(HEIGHT) / 2);
    if (quarter < 3) return colours[quarter][channel];
    return 10 + (int)(shown % 200);
}

static void fill(uint8_t *to) {
    uint32_t format = number(FORMAT), width = number(WIDTH), height = number(HEIGHT);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            switch (format) {
                case 0x02180014: for (int c = 0; c < 3; c++) *to++ = sample(x, y, c); break;     /* RGB8 */
                case 0x02180015: for (int c = 2; c >= 0; c--) *to++ = sample(x, y, c); break;    /* BGR8 */
                case 0x01080009: *to++ = sample(x, y, (x & 1) + (y & 1)); break;                 /* BayerRG8 */
                case 0x01100012: { int v = sample(x, y, y & 1 ? (x & 1 ? 1 : 0) : (x & 1 ? 2 : 1)) * 4095 / 255; /* BayerGB12 */
                                   *to++ = v & 0xff; *to++ = v >> 8; break; }
                case 0x01100005: { int v = sample(x, y, 1) * 4095 / 255; *to++ = v & 0xff; *to++ = v >> 8; break; } /* Mono12 */
                default: *to++ = sample(x, y, 1);
            }
}

API Error GCRegisterEvent(Handle source, int32_t type, Handle *event) {
    if (source != &stream || type != 1) return NOT_IMPLEMENTED;
    *event = &event_;
    return OK;
}
API Error GCUnregisterEvent(Handle source, int32_t type) { return OK; }
API Error EventGetData(Handle event, void *to, size_t *size, uint64_t timeout) {
    double until = now() + timeout / 1e3, rate;
    int next;
    for (;;) {
        if (there("hang")) for (;;) sleep(1);
        if (there("crash")) _exit(3);
        if (number(TRIGGER_MODE) && number(TRIGGER_SOURCE) == LINE0 && unlink(in_folder("pulse")) == 0) {
            take_picture(now(), ++triggers);
        }
        memcpy(&rate, registers + RATE, 8);
        if (!number(TRIGGER_MODE) && !waiting) take_picture(now() + 1 / rate, frames + 1);
        for (next = 0; next < waiting && due[next].at > now(); next++);
        if (grabbing && next < waiting && queued && !there("unplugged")) break;
        if (now() >= until) return TIMEOUT;
        usleep(500);
    }
    Buffer *buffer = &buffers[queue[0]];
    memmove(queue, queue + 1, --queued * sizeof *queue);
    shown = due[next].number;
    memmove(due + next, due + next + 1, (--waiting - next) * sizeof *due);
    buffer->queued = 0;
    buffer->frame = frames++;
    buffer->incomplete = there("incomplete");
    if (!buffer->incomplete) fill(buffer->base);
    memcpy(to, &(void *[]){buffer, buffer->user}, 16);
    *size = 16;
    return OK;
}
API Error EventGetDataInfo(Handle event, const void *in, size_t in_size, int32_t what, int32_t *type, void *to, size_t *size) {
    return what < 2 ? value(in, 8, PTR, type, to, size) : NOT_AVAILABLE;
}
API Error EventGetInfo(Handle event, int32_t what, int32_t *type, void *to, size_t *size) {
    return what == 0 ? int_value(1, type, to, size) : what < 3 ? size_value(0, type, to, size) : size_value(16, type, to, size);
}
API Error EventFlush(Handle event) { return OK; }
API Error EventKill(Handle event) { return OK; }
